"""Write the pages, the README's catalogue and the pictures: ``python -m tests.constraints.pages``, or ``make docs``."""

from tests.constraints.pages.page import FOLDER, drawn, files

for path, text in files().items():
    path.write_text(text, encoding="utf-8")
for picture in drawn():
    picture.save(FOLDER / "pictures")
