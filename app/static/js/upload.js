// Send a chosen file to the API in parts, and go on where the last part ended:
// after a lost connection, and after a reload with the same file.
const form = document.querySelector("[data-upload]");
const [upload, stop] = form.querySelectorAll("button");
const bar = form.querySelector("progress");
const status = form.querySelector("[role=status]");
const words = JSON.parse(form.dataset.words); // in the language of the page
const PART = Number(form.dataset.part);
const PATIENCE = 10; // attempts for one part
let stopped = false;

const pause = (seconds) => new Promise((go) => setTimeout(go, seconds * 1000));

async function ask(url, options = {}) {
  const answer = await fetch(url, options);
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  const texts = [told.title, told.detail, told.hint].filter(Boolean).join(" ");
  // Of an answer without words the panel knows nothing: a proxy in front has given it.
  const proxy =
    answer.status === 413 ? words.proxy : words.answer.replace("{status}", answer.status);
  throw Object.assign(new Error(texts || proxy), {
    status: answer.status,
  });
}

const asJson = (content) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(content),
});

const keyOf = (file) => `upload ${file.name} ${file.size} ${file.lastModified}`;

async function begun(file) {
  const known = localStorage.getItem(keyOf(file));
  if (known) {
    const found = await ask(known).catch((error) => {
      if (error.status !== 404) throw error;
    });
    if (found) return [known, (await found.json()).upload.received];
  }
  const notes = form.elements.notes.value;
  const answer = await ask(form.dataset.upload, asJson({ name: file.name, size: file.size, notes }));
  const place = answer.headers.get("Location");
  localStorage.setItem(keyOf(file), place);
  return [place, 0];
}

async function send(file, place, offset) {
  for (let attempt = 1; ; attempt++) {
    try {
      const answer = await ask(place, {
        method: "PATCH",
        headers: { "Upload-Offset": offset, "Content-Type": "application/partial-upload" },
        body: file.slice(offset, offset + PART),
      });
      return Number(answer.headers.get("Upload-Offset"));
    } catch (error) {
      const passes = error.status === undefined || error.status >= 500;
      if (error.status === 409) return (await (await ask(place)).json()).upload.received;
      if (!passes || error.status === 507 || attempt === PATIENCE) throw error;
      status.textContent = words.again.replace("{error}", () => error.message);
      await pause(attempt);
    }
  }
}

async function run(file) {
  const [place, from] = await begun(file);
  for (let offset = from; offset < file.size && !stopped; ) {
    offset = await send(file, place, offset);
    bar.value = offset / file.size;
    const percent = Math.floor((100 * offset) / file.size);
    status.textContent = words.uploaded.replace("{percent}", percent);
  }
  if (stopped) {
    status.textContent += ` – ${words.stopped}`;
    return;
  }
  const answer = await ask(`${place}/import`, asJson({}));
  localStorage.removeItem(keyOf(file));
  const { backup } = await answer.json();
  location.assign(`${form.dataset.backups}/${backup.filename}`);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  stopped = false;
  upload.disabled = true;
  stop.hidden = bar.hidden = false;
  status.textContent = words.starting;
  await run(form.elements.file.files[0]).catch((error) => {
    status.textContent = error.message;
  });
  upload.disabled = false;
  stop.hidden = true;
});
stop.addEventListener("click", () => {
  stopped = true;
});
upload.disabled = false;
