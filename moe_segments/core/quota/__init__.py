"""Quota arithmetic: windows, the gauge of active segments, admission, the forecast. Pure."""
