// Sets the colours before anything is drawn: the one script that isn't a module.
(() => {
  const stored = localStorage.getItem("ingot.theme");
  if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;
})();
