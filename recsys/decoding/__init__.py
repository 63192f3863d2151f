"""From a step scorer to slates: paths in a free codebook order (CRSS), pruned where inconsistent (CORP)."""
