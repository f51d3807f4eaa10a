"""What the operator, the trainer and the model servers say to each other. pydantic and the standard library only."""
