// Before anything is drawn: dark or light, as it was chosen here, else as the system has it.
"use strict";
try {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch (error) {
  // A browser that keeps nothing has what the system has.
}
