"""An adapter that lives in a package of its own."""
