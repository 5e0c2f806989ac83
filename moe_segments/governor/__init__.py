"""The governor of one client: the queue for quota, usage, forecasts."""
