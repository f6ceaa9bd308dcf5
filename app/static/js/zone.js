// Say which time zone this browser has.
const place = document.querySelector("[data-browser-zone]");
place.querySelector("code").textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
place.hidden = false;
