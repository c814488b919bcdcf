"""The recipes, one readable file each; training/recipe.py says what their fields mean."""
