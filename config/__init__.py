"""Traffic rules as users write them: decoding, validation and storage."""
