"""What this machine can do: bandwidths, peaks and overheads, measured once and kept."""
