"""What happens around training: the run's folder, checkpoints, panels, loggers, written predictions."""
