"""The commands, a module each; together with settings and daemon they compose everything else."""
