"""The networks of Keras Applications, and the weight files that Keras writes."""
