"""`rtsr live`: a camera, a screen or a stream, upscaled while you watch. Newest frame wins; nothing queues."""
