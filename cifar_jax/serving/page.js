// The page's inputs: files, images from other pages, examples and drawings.

import { ask, clear, create, element } from "./answers.js";
import { draw, examples } from "./examples.js";
import { told } from "./language.js";

/* Pictures from elsewhere */

async function take(pictures) {
  await ask(pictures);
  const status = element("status");
  if (status.getBoundingClientRect().bottom > window.innerHeight) {
    status.scrollIntoView(); // On a phone, it is below the drawing area.
  }
}

const named = (files) => Array.from(files, (file) => ({ name: file.name, picture: file }));

// Returns the pictures that were dropped or pasted, or an error for anything else.
function given(data) {
  if (data.files.length > 0) {
    return named(data.files);
  }
  const addresses = addressesIn(data);
  if (addresses.length > 0) {
    return addresses.map(fromAddress);
  }
  const error = told(
    "That is not a picture. Drop or paste an image, or choose a file.",
    "這不是圖片。請拖曳或貼上一張圖片，或者選擇檔案。",
  );
  return [{ name: told("not a picture", "不是圖片"), error }];
}

// The address of an image in HTML, after other attributes, whose quoted values may have
// any characters. A DOMParser would report their styles as forbidden on this page.
const IMAGE = /<img(?:[^>"']|"[^"]*"|'[^']*')*?\ssrc\s*=\s*(?:"([^"]*)"|'([^']*)')/gi;

// Returns the addresses of images or, if there are none, any other addresses.
function addressesIn(data) {
  const found = data.getData("text/html").matchAll(IMAGE);
  const images = Array.from(found, ([, double, single]) => double ?? single);
  if (images.length > 0) {
    return images;
  }
  const lines = data.getData("text/uri-list") || data.getData("text/plain");
  const whole = lines.split(/\r?\n/).map((line) => line.trim());
  const listed = whole.filter((line) => line && !line.startsWith("#"));
  return listed.every((line) => /^(https?|data|blob|file):\S+$/i.test(line)) ? listed : [];
}

function fromAddress(address) {
  const name = told("picture", "圖片");
  if (!/^data:/i.test(address)) {
    const error = told(
      "This page loads nothing from other sites. Save the image and drop the file here, " +
        "or copy the image itself and paste it.",
      "這個網頁不會從其他網站下載任何東西。請把圖片存成檔案再拖曳過來，" +
        "或者複製圖片本身再貼上。",
    );
    return { name, error };
  }
  try {
    return { name, picture: decoded(address) };
  } catch {
    const error = told(
      "This picture is damaged. Save the image and drop the file here.",
      "這張圖片已經損壞。請把圖片存成檔案再拖曳過來。",
    );
    return { name, error };
  }
}

// Returns the contents of a data: address. The page cannot fetch it, since its security
// policy only allows requests to its own server.
function decoded(address) {
  const comma = address.indexOf(",");
  const text = address
    .slice(comma + 1)
    .replace(/%([0-9a-f]{2})/gi, (_, digits) => String.fromCharCode(parseInt(digits, 16)));
  const isBase64 = /;\s*base64\s*$/i.test(address.slice(0, comma));
  const bytes = isBase64 ? atob(text) : text;
  return new Blob([Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))]);
}

element("file").addEventListener("change", (event) => {
  if (event.target.files.length > 0) {
    take(named(event.target.files));
  }
});
element("file").addEventListener("click", (event) => {
  event.target.value = ""; // Allows choosing the same file again.
});
document.addEventListener("paste", (event) => take(given(event.clipboardData)));
document.addEventListener("dragover", (event) => {
  event.preventDefault(); // Otherwise, a drop would open the file instead of the page.
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(given(event.dataTransfer));
});

/* Examples */

for (const example of examples) {
  const picture = create("canvas", { width: 128, height: 128 });
  draw(example, picture);
  const { name } = example;
  const button = create("button", { type: "button" }, picture, name);
  button.addEventListener("click", () => {
    const drawn = told(`our drawing: ${name}`, `我們畫的${name}`);
    picture.toBlob((blob) => take([{ name: drawn, picture: blob }]));
  });
  element("examples").append(button);
}

/* Pictures drawn here */

const canvas = element("canvas");
const pen = canvas.getContext("2d");
let last = null; // The end of the current stroke.

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
  askAboutDrawing();
});

function askAboutDrawing() {
  canvas.toBlob((picture) => ask([{ name: told("your drawing", "你的畫"), picture }]));
}

function fill(color) {
  pen.fillStyle = color;
  pen.fillRect(0, 0, canvas.width, canvas.height);
}

element("fill").addEventListener("click", () => {
  fill(element("color").value);
  askAboutDrawing();
});
element("clear").addEventListener("click", () => {
  fill("white");
  clear();
});
fill("white");
