"""What is minimized and what is measured: losses and errors."""
