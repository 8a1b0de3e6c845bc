"""What a model sees of a candidate beside the columns of the log: one definition for training and serving."""
