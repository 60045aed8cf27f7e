"""Files that appear whole or not at all, arrays in them that are checked before they are believed, and tables.

In come paths and arrays; out come files, or the arrays of a file that was seen to be what it says it is. What a killed
process leaves is a temporary name, never half a file.

It never computes: margins, scores and cut-offs come from elsewhere. It never uses pickle, and never removes or
overwrites anything but the one file that it was asked to write.
"""

from aum_core.files.arrays import check_arrays, load_arrays, save_arrays
from aum_core.files.tables import read_aum_values, write_aum_values, write_table
from aum_core.files.whole import write_json, write_whole, write_whole_folder

__all__ = [
    "check_arrays",
    "load_arrays",
    "read_aum_values",
    "save_arrays",
    "write_aum_values",
    "write_json",
    "write_table",
    "write_whole",
    "write_whole_folder",
]
