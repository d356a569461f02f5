"""Your own pictures, in a folder with a sub-folder for each class."""
