"""What is generated for an input, case by case, in files."""
