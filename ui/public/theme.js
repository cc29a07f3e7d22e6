// Runs before the first paint, as a file of its own because the content security policy forbids inline scripts.
(function () {
  try {
    var theme = localStorage.getItem('nephilia.theme');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch (e) {
    // Without storage the system's preference holds.
  }
})();
