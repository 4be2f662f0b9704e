//! Pulling: which layers are missing, and bringing them here.
