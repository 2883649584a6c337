"""What users may start from; the demo runs it, so that it stays true."""
