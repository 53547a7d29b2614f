"""i-PI: the driver that it loads, and the file that names the driver."""
