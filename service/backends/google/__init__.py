"""Firebase and Google Cloud, one module for each seam; what is Google's is imported on first use."""
