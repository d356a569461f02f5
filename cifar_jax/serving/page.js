"use strict";

const element = (id) => document.getElementById(id);
const status = element("status");
const canvas = element("canvas");
const pen = canvas.getContext("2d");
const { mostBytes, mostMegabytes } = document.body.dataset;

/* Asking */

// Of the request whose answer is awaited: only the newest picture matters.
let waiting = new AbortController();

function say(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

function fail(text) {
  element("result").hidden = true;
  say(text, true);
}

async function ask(picture) {
  waiting.abort();
  waiting = new AbortController();
  const { signal } = waiting;
  if (picture.size > mostBytes) {
    fail(`The file is larger than ${mostMegabytes} MB; scale it down first.`);
    return;
  }
  say("The network is looking at it …");
  try {
    const response = await fetch("classify", {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: picture,
      signal,
    });
    const isJson = response.headers.get("Content-Type") === "application/json";
    const answer = isJson ? await response.json() : {};
    if (response.ok) {
      show(answer);
    } else {
      fail(answer.error ?? "The server failed; its terminal says why.");
    }
  } catch {
    if (!signal.aborted) {
      fail("The server does not answer. Is the command still running?");
    }
  }
}

/* Showing */

function create(kind, properties, ...children) {
  const created = Object.assign(document.createElement(kind), properties);
  created.append(...children);
  return created;
}

function show({ picture, input, classes, layers, convolutions }) {
  element("picture").src = picture.url;
  element("picture").alt = "Your picture, cropped and scaled";
  element("picture-text").textContent = `your picture, cropped to ${picture.size}`;
  element("input").src = input.url;
  element("input").alt = "What the network is given";
  element("input-text").textContent = `what the network is given, ${input.size}`;
  element("classes").replaceChildren(...classes.map(bar));
  element("layers").replaceChildren(...layers.map(layer));
  element("maps-text").textContent = explanation(layers.length, convolutions);
  element("result").hidden = false;
  const [best] = classes;
  say(`The network says: ${best.name}, ${percent(best.probability)}.`);
}

function percent(share) {
  return share < 0.001 ? "< 0.1%" : `${(100 * share).toFixed(1)}%`;
}

function bar({ name, probability }) {
  const filled = create("i");
  filled.style.width = `${100 * probability}%`;
  return create(
    "li",
    {},
    create("span", { className: "name", textContent: name }),
    create("span", { className: "bar" }, filled),
    create("span", { className: "share", textContent: percent(probability) }),
  );
}

function layer({ name, url, size, shown, maps, low, high }) {
  const count = shown < maps ? `${shown} of ${maps}` : maps;
  const text = `${count} maps of ${size}`;
  const scale = create(
    "span",
    {},
    String(Number(low.toPrecision(2))),
    create("span", { className: "scale" }),
    String(Number(high.toPrecision(2))),
  );
  const caption = create("figcaption", {}, create("b", { textContent: name }), text, scale);
  const image = create("img", { src: url, alt: `${name}: ${text}` });
  return create("figure", {}, caption, image);
}

function explanation(shown, all) {
  if (all === 0) {
    return "This network records the maps of no convolution.";
  }
  const which =
    shown < all
      ? ` ${shown} of its ${all} convolutions are shown, evenly spaced, the first and ` +
        "the last among them."
      : "";
  return (
    "The output of each convolution, from the picture to the classes: every tile is one " +
    "map, bright where it has found what it looks for." +
    which
  );
}

function smoothIfReduced({ target }) {
  // Pixels stay squares, unless there is no room for all of them.
  target.classList.toggle("reduced", target.naturalWidth > target.width);
}

// Such events do not bubble, but they are captured.
element("result").addEventListener("load", smoothIfReduced, true);

/* Pictures from files */

async function take(files) {
  if (files.length > 0) {
    await ask(files[0]);
    if (status.getBoundingClientRect().bottom > window.innerHeight) {
      status.scrollIntoView(); // It is below the drawing on a phone.
    }
  }
}

element("file").addEventListener("change", (event) => {
  take(event.target.files);
});
element("file").addEventListener("click", (event) => {
  event.target.value = ""; // Lets the same file be chosen again.
});
document.addEventListener("paste", (event) => take(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault(); // Otherwise a drop would open the file in place of the page.
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(event.dataTransfer.files);
});

/* Pictures drawn */

let last = null; // The end of the stroke that is being drawn.

function place(event) {
  const box = canvas.getBoundingClientRect();
  const zoom = canvas.width / box.width;
  return [(event.clientX - box.left) * zoom, (event.clientY - box.top) * zoom];
}

function stroke(event) {
  pen.strokeStyle = element("color").value;
  pen.lineWidth = element("size").value;
  pen.lineCap = "round";
  pen.beginPath();
  pen.moveTo(...last);
  last = place(event);
  pen.lineTo(...last);
  pen.stroke();
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  last = place(event);
  stroke(event);
});
canvas.addEventListener("pointermove", (event) => {
  if (last) {
    stroke(event);
  }
});
canvas.addEventListener("lostpointercapture", () => {
  last = null;
  canvas.toBlob(ask);
});

function fill(color) {
  pen.fillStyle = color;
  pen.fillRect(0, 0, canvas.width, canvas.height);
}

element("fill").addEventListener("click", () => {
  fill(element("color").value);
  canvas.toBlob(ask);
});
element("clear").addEventListener("click", () => {
  fill("white");
  waiting.abort();
  element("result").hidden = true;
  say("Its answer will appear here.");
});
fill("white");
