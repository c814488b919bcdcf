"""`rtsr compare A B`: the same moments of two films, or two pictures, side by side and measured.

films.py opens and describes them and brings them to one size; moments.py matches them by time; measure.py has the
figures; video.py, page.py, crops.py and report.py show them.
"""
