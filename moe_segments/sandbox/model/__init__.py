"""The service as a model: segments, quotas and files of one workspace. No I/O."""
