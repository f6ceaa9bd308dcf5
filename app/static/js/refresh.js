// While something is pending, fetch this very page again and put its marked
// parts in place: the server renders, this only refreshes.
const EVERY = 1000; // milliseconds

// A form's token is another one at each answer, and the old one stays good.
function content(part) {
  const copy = part.cloneNode(true);
  copy.querySelectorAll("[name=csrf_token]").forEach((token) => token.remove());
  return copy.outerHTML;
}

// What stands in a part for the element that has the keyboard's focus.
function twin(part, other) {
  const active = document.activeElement;
  if (active === part) return other;
  if (!part.contains(active)) return null;
  const key = (each) =>
    [each.id, each.getAttribute("href"), each.form?.action, each.textContent.trim()].join("\n");
  const same = (each) => key(each) === key(active);
  return Array.from(other.querySelectorAll(active.tagName)).find(same) ?? null;
}

// Boxes that are checked stay checked.
function keepChecked(part, other) {
  for (const box of part.querySelectorAll("[type=checkbox]:checked")) {
    const same = `[name="${CSS.escape(box.name)}"][value="${CSS.escape(box.value)}"]`;
    const fresh = other.querySelector(same);
    if (fresh) fresh.checked = true;
  }
}

async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.redirected) return location.reload(); // the session has ended
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const other = fresh.querySelector(`[data-refresh="${part.dataset.refresh}"]`);
    if (!other || content(other) === content(part)) continue;
    const top = part.scrollTop;
    const focused = twin(part, other);
    keepChecked(part, other);
    part.replaceWith(other);
    other.scrollTop = top;
    focused?.focus({ preventScroll: true });
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
