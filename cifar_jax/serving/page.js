"use strict";

const element = (id) => document.getElementById(id);
const status = element("status");
const canvas = element("canvas");
const pen = canvas.getContext("2d");
const { mostBytes, mostMegabytes } = document.body.dataset;

/* Language */

// Traditional Chinese where the browser prefers Chinese; both texts stand side by side.
const isChinese = /^zh\b/i.test(navigator.language);
const told = (english, chinese) => (isChinese ? chinese : english);

// What is wrong with a picture, as the server says it.
const REFUSALS = [
  [/not a readable picture/, "這個檔案不是可以讀取的圖片。"],
  [/larger than (\d+) MB/, "這個檔案超過 $1 MB，請先縮小。"],
  [
    /too large, (\d+) million pixels; scale it down to (\d+)/,
    "這張圖片有 $1 百萬像素，請先縮小到 $2 百萬像素以內。",
  ],
  [/too large/, "這張圖片太大，請先縮小。"],
  [/is damaged|cannot read the file/, "這個檔案不完整，或已經損壞。"],
  [
    /(\d+) MB of text or color profile/,
    "這個檔案裡的文字或色彩描述檔超過 $1 MB，請另存成不含這些內容的圖片。",
  ],
  [/save it with 8 or 16 bits/, "這張圖片的數值範圍不明，請另存成 8 或 16 位元。"],
  [/NaN or infinite values/, "這張圖片含有 NaN 或無限大的數值。"],
  [
    /not enough memory|cannot be read now/,
    "電腦的記憶體不足，請先把圖片縮小，或結束其他程式。",
  ],
];

function explained(message) {
  const [pattern, chinese] = REFUSALS.find(([known]) => known.test(message)) ?? [];
  const meaning = pattern && message.match(pattern)[0].replace(pattern, chinese);
  return told(message, meaning ?? `伺服器說：${message}`);
}

if (isChinese) {
  document.documentElement.lang = "zh-Hant-TW";
  for (const translated of document.querySelectorAll("[data-zh]")) {
    translated.textContent = translated.dataset.zh;
  }
  for (const translated of document.querySelectorAll("[data-zh-label]")) {
    translated.setAttribute("aria-label", translated.dataset.zhLabel);
  }
}

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
    fail(explained(`The file is larger than ${mostMegabytes} MB; scale it down first.`));
    return;
  }
  say(told("The network is looking at it …", "網路正在看 …"));
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
      const unknown = told(
        "The server failed; its terminal says why.",
        "伺服器發生錯誤，原因寫在執行它的終端機裡。",
      );
      fail(answer.error ? explained(answer.error) : unknown);
    }
  } catch {
    if (!signal.aborted) {
      fail(
        told(
          "The server does not answer. Is the command still running?",
          "伺服器沒有回應。指令還在執行嗎？",
        ),
      );
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
  element("picture").alt = told(
    "Your picture, cropped and scaled",
    "你的圖片，裁切並縮放過",
  );
  element("picture-text").textContent = told(
    `your picture, cropped to ${picture.size}`,
    `你的圖片，裁切成 ${picture.size}`,
  );
  element("input").src = input.url;
  element("input").alt = told("What the network is given", "網路收到的圖片");
  element("input-text").textContent = told(
    `what the network is given, ${input.size}`,
    `網路收到的圖片，${input.size}`,
  );
  element("classes").replaceChildren(...classes.map(bar));
  element("layers").replaceChildren(...layers.map(layer));
  element("maps-text").textContent = explanation(layers.length, convolutions);
  element("result").hidden = false;
  const [best] = classes;
  const share = percent(best.probability);
  say(told(`The network says: ${best.name}, ${share}.`, `網路說：${best.name}，${share}。`));
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
  const isPart = shown < maps;
  const text = told(
    `${isPart ? `${shown} of ${maps}` : maps} maps of ${size}`,
    `${isPart ? `${maps} 張中的 ${shown} 張` : `${maps} 張`} ${size} 的特徵圖`,
  );
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
    return told(
      "This network records the maps of no convolution.",
      "這個網路沒有記錄任何卷積層的特徵圖。",
    );
  }
  const which =
    shown < all
      ? told(
          ` ${shown} of its ${all} convolutions are shown, evenly spaced, the first and ` +
            "the last among them.",
          `這裡從 ${all} 個卷積層中等距取出 ${shown} 個，包括第一個和最後一個。`,
        )
      : "";
  return (
    told(
      "The output of each convolution, from the picture to the classes: every tile is " +
        "one map, bright where it has found what it looks for.",
      "從圖片到類別，每個卷積層的輸出：每一格是一張特徵圖，" +
        "亮的地方就是它找到想找的東西的地方。",
    ) + which
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
  say(told("Its answer will appear here.", "答案會出現在這裡。"));
});
fill("white");
