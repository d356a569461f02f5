"""Networks of Keras Applications, and the files of weights that Keras writes."""
