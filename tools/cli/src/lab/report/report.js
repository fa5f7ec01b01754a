"use strict";
// Whatever has a tip shows it where the mouse is; the button turns light into dark and back.

(() => {
  const point = document.getElementById("point");
  document.addEventListener("pointermove", (event) => {
    const marked = event.target.closest?.("[data-tip]");
    point.hidden = !marked;
    if (!marked) return;
    point.textContent = marked.dataset.tip;
    const box = point.getBoundingClientRect();
    const x = event.clientX + 14 + box.width > innerWidth ? event.clientX - 14 - box.width : event.clientX + 14;
    const y = event.clientY + 18 + box.height > innerHeight ? event.clientY - 10 - box.height : event.clientY + 18;
    point.style.left = Math.max(4, x) + "px";
    point.style.top = Math.max(4, y) + "px";
  });
  const root = document.documentElement;
  document.getElementById("theme").onclick = () => {
    const isDark = getComputedStyle(root).colorScheme.includes("dark");
    root.dataset.theme = isDark ? "light" : "dark";
  };
})();
