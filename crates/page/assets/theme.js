// Runs before the first paint, so that a chosen theme does not flash.
try {
  const theme = localStorage.getItem("tidemill-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* a browser may refuse storage; then the system's theme holds */ }
