"""The contrast of what a page shows, as WCAG 2.2 computes it."""

from typing import Any

# The colours of each piece of text that is seen, and of what is behind it: the nearest background that is not clear.
TEXTS = """
const clear = (colour) => /,\\s*0\\)$/.test(colour) || colour === "transparent";
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor;
    if (!clear(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
};
const found = new Map();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || element.closest("script, style, title, desc") ||
      !element.getClientRects().length) continue;
  const style = getComputedStyle(element);
  const colour = element.closest("svg") ? style.fill : style.color;
  found.set(colour + behind(element), [colour, behind(element), walker.currentNode.data.trim().slice(0, 40)]);
}
for (const mark of document.querySelectorAll(".icon, .line, .dots, .edge")) {
  if (!mark.getClientRects().length) continue;
  const colour = getComputedStyle(mark).stroke;
  if (colour !== "none") found.set(colour + "mark", [colour, behind(mark), "mark"]);
}
return [...found.values()];
"""


def luminance(colour: tuple[float, ...]) -> float:
    """The relative luminance of WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    parts: list[Any] = []
    for colour in (first, second):
        numbers = [float(part) for part in colour[colour.index("(") + 1 : -1].replace("/", ",").split(",")]
        assert len(numbers) == 3, f"{colour} is not opaque"
        parts.append(luminance(tuple(numbers)))
    return (max(parts) + 0.05) / (min(parts) + 0.05)
