"""The machine's own Chromium, for tests that look at pages."""

import shutil
from typing import Final

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM: Final = next(filter(None, map(shutil.which, _NAMES)), None)
"""None: there is none."""

LOW_CONTRAST: Final = """() => {
    const numbers = (colour) => [...colour.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
    const luminance = (colour) => numbers(colour).slice(0, 3)
        .map((value) => value / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
    const ground = (element) => {
        const colour = getComputedStyle(element).backgroundColor;
        return numbers(colour)[3] === 1 ? colour : ground(element.parentElement);
    };
    const contrast = (element) => {
        const both = [getComputedStyle(element).color, ground(element)].map(luminance);
        return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    };
    const isText = (node) => node.nodeType === 3 && node.data.trim();
    const hasText = (element) => [...element.childNodes].some(isText);
    return [...document.querySelectorAll("body *")]
        .filter((element) => element.checkVisibility() && hasText(element) && contrast(element) < 4.5)
        .map((element) => `${element.className}: ${element.textContent}`);
}"""
"""Gives what is written too pale to be read: below WCAG's contrast of 4.5 : 1."""
