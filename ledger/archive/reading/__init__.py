"""Reading an archive: one object, or many from a process that does nothing else."""
