"""The control plane: merges what registries know into one mesh and sends it to Envoys."""
