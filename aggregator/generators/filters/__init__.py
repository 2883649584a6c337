"""HTTP filters, a module each; the order of the chain follows from their stages."""
