"""Where the time of a step goes, kernel by kernel, beside what the machine's limits allow."""
