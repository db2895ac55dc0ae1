// A classic script in the head: the theme must be known before the first paint, else a dark page flashes white.
(() => {
  try {
    const theme = localStorage.getItem('graft.theme');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch {
    // No storage (private window): the system's theme.
  }
})();
