"""What goes through a pipe: tensors, checkpoints, reports, schemas, atomic writing."""
