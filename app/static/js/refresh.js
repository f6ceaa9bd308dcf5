// While something is pending, fetch this very page again and put its marked
// parts in place: the server renders, this only refreshes.
const EVERY = 1000; // milliseconds

async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.redirected) return location.reload(); // the session has ended
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const other = fresh.querySelector(`[data-refresh="${part.dataset.refresh}"]`);
    if (other && other.outerHTML !== part.outerHTML) part.replaceWith(other);
  }
}

async function watch() {
  if (document.querySelector("[data-pending]") && !document.hidden) {
    await refresh().catch(() => {}); // the server may be restarting
  }
  setTimeout(watch, EVERY);
}

for (const select of document.querySelectorAll("[data-submit-on-change]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
watch();
