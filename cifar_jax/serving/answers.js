// Asks the server about pictures and shows its answers.

import { explained, told } from "./language.js";

export const element = (id) => document.getElementById(id);
const status = element("status");
const { mostBytes, mostMegabytes } = document.body.dataset;

/* Asking */

// More answers could fill the browser's memory.
const MOST_AT_ONCE = 50;
// Cancels pending requests when new pictures replace the ones they are about.
let waiting = new AbortController();

function say(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

// Discards the current pictures and their answers.
function forget() {
  waiting.abort();
  waiting = new AbortController();
  element("several").hidden = true;
  element("answers").replaceChildren();
}

export function clear() {
  forget();
  element("result").hidden = true;
  say(told("The answer will appear here.", "答案會出現在這裡。"));
}

// Shows the answers to pictures, asking for one at a time. Each entry has a name and
// either a picture, which is a Blob, or an error that tells why there is none.
export async function ask(pictures) {
  forget();
  const { signal } = waiting;
  const asked = pictures.slice(0, MOST_AT_ONCE);
  for (const [index, picture] of asked.entries()) {
    say(progress(index + 1, asked.length));
    const found = picture.error ? picture : await answered(picture, signal);
    if (signal.aborted) {
      return;
    }
    element("answers").append(entry(picture.name, found));
    element("several").hidden = pictures.length === 1;
    element("several-text").textContent = summary(index + 1, pictures.length);
    if (index === 0) {
      element("answers").firstChild.click();
    }
  }
  pressed().click(); // Replaces the progress message.
}

const pressed = () => element("answers").querySelector("[aria-pressed=true]");

function progress(number, count) {
  return count === 1
    ? told("The network is looking at the picture …", "網路正在看 …")
    : told(
        `The network is looking at picture ${number} of ${count} …`,
        `網路正在看第 ${number} 張圖片，共 ${count} 張 …`,
      );
}

function summary(number, count) {
  return told(
    `${number} of ${count} pictures. Choose one to see the full answer.` +
      (count > MOST_AT_ONCE ? ` At most ${MOST_AT_ONCE} are classified at a time.` : ""),
    `${count} 張圖片中的 ${number} 張。選一張就能看到完整的答案。` +
      (count > MOST_AT_ONCE ? `一次最多回答 ${MOST_AT_ONCE} 張。` : ""),
  );
}

// Returns the answer to a picture, or an error.
async function answered({ name, picture }, signal) {
  if (picture.size > mostBytes) {
    return {
      error: explained(`The file is larger than ${mostMegabytes} MB; scale it down first.`),
    };
  }
  let body;
  try {
    body = await picture.arrayBuffer();
  } catch {
    return {
      error: told(
        `The browser cannot read ${name}. If it is a folder, choose the pictures inside it.`,
        `瀏覽器無法讀取 ${name}。如果它是資料夾，請選擇裡面的圖片。`,
      ),
    };
  }
  try {
    const response = await fetch("classify", {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body,
      signal,
    });
    const isJson = response.headers.get("Content-Type") === "application/json";
    const answer = isJson ? await response.json() : {};
    if (response.ok) {
      return { answer };
    }
    const unknown = told(
      "The server failed; see its terminal for the reason.",
      "伺服器發生錯誤，原因寫在執行它的終端機裡。",
    );
    return { error: answer.error ? explained(answer.error) : unknown };
  } catch {
    return {
      error: told(
        "The server is not responding. Is the command still running?",
        "伺服器沒有回應。指令還在執行嗎？",
      ),
    };
  }
}

/* Showing */

export function create(kind, properties, ...children) {
  const created = Object.assign(document.createElement(kind), properties);
  created.append(...children);
  return created;
}

// Returns a button that shows one of several answers.
function entry(name, { answer, error }) {
  const button = create(
    "button",
    { type: "button" },
    ...(answer ? [create("img", { src: answer.picture.url, alt: "" })] : []),
    create("b", { textContent: name }),
    create("span", { textContent: answer ? verdict(answer) : error }),
  );
  button.addEventListener("click", () => {
    pressed()?.removeAttribute("aria-pressed");
    button.setAttribute("aria-pressed", "true");
    element("result").hidden = !answer;
    if (answer) {
      show(name, answer);
      say(told(`The network says: ${verdict(answer)}.`, `網路說：${verdict(answer)}。`));
    } else {
      say(error, true);
    }
  });
  return button;
}

function verdict({ classes: [best] }) {
  const share = percent(best.probability);
  return told(`${best.name}, ${share}`, `${best.name}，${share}`);
}

function show(name, { picture, input, classes, layers, convolutions }) {
  element("picture").src = picture.url;
  element("picture").alt = told(
    `${name}, cropped and scaled`,
    `${name}，裁切並縮放過`,
  );
  element("picture-text").textContent = told(
    `${name}, cropped to ${picture.size}`,
    `${name}，裁切成 ${picture.size}`,
  );
  element("input").src = input.url;
  element("input").alt = told("The network's input", "網路收到的圖片");
  element("input-text").textContent = told(
    `the network's input, ${input.size}`,
    `網路收到的圖片，${input.size}`,
  );
  element("classes").replaceChildren(...classes.map(bar));
  element("layers").replaceChildren(...layers.map(layer));
  element("maps-text").textContent = explanation(layers.length, convolutions);
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
      "This network does not record the maps of any convolution.",
      "這個網路沒有記錄任何卷積層的特徵圖。",
    );
  }
  const which =
    shown < all
      ? told(
          ` ${shown} of its ${all} convolutions are shown, evenly spaced, including the ` +
            "first and the last.",
          `這裡從 ${all} 個卷積層中等距取出 ${shown} 個，包括第一個和最後一個。`,
        )
      : "";
  return (
    told(
      "The output of each convolution, from the picture to the classes. Each tile is one " +
        "map, bright where the convolution found what it looks for.",
      "從圖片到類別，每個卷積層的輸出：每一格是一張特徵圖，" +
        "亮的地方就是它找到想找的東西的地方。",
    ) + which
  );
}

function smoothIfReduced({ target }) {
  // Pixels are drawn as squares unless the image is shown at a reduced size.
  target.classList.toggle("reduced", target.naturalWidth > target.width);
}

// Load events do not bubble, but they can be captured.
element("result").addEventListener("load", smoothIfReduced, true);
