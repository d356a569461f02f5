// Traditional Chinese if the browser prefers Chinese. The code has both texts side by side.
const isChinese = /^zh\b/i.test(navigator.language);
export const told = (english, chinese) => (isChinese ? chinese : english);

// Patterns of the server's error messages about pictures, and their translations.
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

export function explained(message) {
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
