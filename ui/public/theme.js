// Runs before the first paint, as a file of its own because the content security policy forbids inline scripts.
(function () {
  var theme = null;
  try {
    theme = localStorage.getItem('nephilia.theme');
  } catch (e) {
    // Without storage the system's preference holds.
  }
  if (theme !== 'light' && theme !== 'dark') theme = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  document.documentElement.dataset.theme = theme;
})();
