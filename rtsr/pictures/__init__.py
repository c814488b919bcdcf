"""Still pictures: read with all that lies beside their pixels, enlarged, written, checked."""
