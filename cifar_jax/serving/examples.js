// Pictures to try, as SVG paths: shapes from back to front on 128 x 128 pixels. They are
// drawings, although the network may have seen only photographs.

import { told } from "./language.js";

const circle = (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
const all = "M0 0h128v128H0z";

export const examples = [
  {
    name: told("airplane", "飛機"),
    shapes: [
      ["#8fbbe6", all],
      ["#e9f0f6", "M10 66q4-9 24-9h62l12-20h9l-3 27q-2 10-20 10H30q-16 0-20-8z"],
      ["#9aa7b5", "M46 68h32L52 96H40z"],
      ["#b9c4cf", "M56 57h22L66 40h-9z"],
      ["#5c6b7a", "M18 61h10v4H16z"],
    ],
  },
  {
    name: told("ship", "船"),
    shapes: [
      ["#a9cdea", all],
      ["#24577f", "M0 84h128v44H0z"],
      ["#2b2f36", "M10 68h110l-14 24H24z"],
      ["#b3372f", "M20 84h90l-5 8H24z"],
      ["#f4f4f2", "M34 52h58v16H34z"],
      ["#f4f4f2", "M42 40h34v12H42z"],
      ["#c9792b", "M56 22h12v18H56z"],
    ],
  },
  {
    name: told("automobile", "汽車"),
    shapes: [
      ["#c9d3da", all],
      ["#84888c", "M0 82h128v46H0z"],
      ["#c22a25", "M8 66q2-10 18-12l18-20q4-4 10-4h30q8 0 13 6l14 18q12 2 13 12v22H8z"],
      ["#25323d", "M36 54l14-16h14v16zM69 38h15q5 0 8 4l9 12H69z"],
      ["#17191c", circle(32, 88, 13) + circle(98, 88, 13)],
      ["#b8bec4", circle(32, 88, 6) + circle(98, 88, 6)],
      ["#f6e7a8", "M116 64h8v8h-8z"],
    ],
  },
  {
    name: told("truck", "卡車"),
    shapes: [
      ["#b9d3e8", all],
      ["#8a8780", "M0 92h128v36H0z"],
      ["#e8e6df", "M6 26h78v62H6z"],
      ["#1f58a8", "M87 44h20l15 22v22H87z"],
      ["#26323c", "M93 49h12l10 16H93z"],
      ["#33363b", "M6 86h116v8H6z"],
      ["#17191c", circle(26, 96, 12) + circle(56, 96, 12) + circle(104, 96, 12)],
      ["#b8bec4", circle(26, 96, 5) + circle(56, 96, 5) + circle(104, 96, 5)],
    ],
  },
  {
    name: told("bird", "鳥"),
    shapes: [
      ["#9fb58a", all],
      ["#6b5236", "M0 98q60-12 128-6v8Q60 92 0 106z"],
      ["#8a5a34", "M20 88q6-34 44-40 12-20 28-14 12 4 12 16l14 6-14 4q-4 30-34 36-30 4-64 14z"],
      ["#d9b48a", "M52 90q26-4 40-34 12 0 11 6-4 24-32 32z"],
      ["#111111", circle(95, 46, 3)],
      ["#5a3a20", "M22 86q18-26 50-24-8 26-50 24z"],
    ],
  },
  {
    name: told("frog", "青蛙"),
    shapes: [
      ["#7a6a4a", all],
      ["#4f8a2c", "M22 96q-8-44 42-48 50 4 42 48-20 14-42 14T22 96z"],
      ["#4f8a2c", circle(42, 44, 13) + circle(86, 44, 13)],
      ["#e6d98a", circle(42, 42, 8) + circle(86, 42, 8)],
      ["#10140c", circle(42, 42, 4.5) + circle(86, 42, 4.5)],
      ["#a9c46a", "M40 80q24 14 48 0l-4 24q-20 8-40 0z"],
      ["#2c4f18", "M34 70q30 16 60 0-30 10-60 0z"],
      ["#3f7323", "M8 106q4-24 24-22 4 20-4 28H8zM120 106q-4-24-24-22-4 20 4 28h20z"],
    ],
  },
  {
    name: told("horse", "馬"),
    shapes: [
      ["#a8cbe8", all],
      ["#6f9a4a", "M0 84h128v44H0z"],
      ["#6b3d1e", "M30 54q26-8 50 0l14-26 6-8 4 8 16 16-4 8-14-2-12 24q-2 10-10 12l2 34h-8l-6-32H44l-6 32h-8l2-36q-6-14-2-30z"],
      ["#2a1608", "M30 54q-14 4-14 34l6 4q2-22 12-26zM80 54l14-28 6-6q-2 20-12 38z"],
      ["#55300f", "M78 84h7l-2 28h-6zM40 84h7l-2 28h-6z"],
    ],
  },
  {
    name: told("cat", "貓"),
    shapes: [
      ["#b8a890", all],
      ["#6a6258", "M30 128q-4-30 20-38h28q24 8 20 38z"],
      ["#7b7268", "M26 26l22 14h32l22-14-2 44q-4 28-36 30-32-2-36-30z"],
      ["#c79a90", "M31 36l12 8-9 10zM97 36l-12 8 9 10z"],
      ["#d6c84a", circle(49, 62, 8) + circle(79, 62, 8)],
      ["#111111", "M47 55h4v14h-4zM77 55h4v14h-4z"],
      ["#e4ded6", "M64 74q-14 0-16 12 6 10 16 10t16-10q-2-12-16-12z"],
      ["#b0605c", "M59 75h10l-5 6z"],
      ["#4a443c", "M52 30h4v16h-4zM62 28h4v18h-4zM72 30h4v16h-4z"],
    ],
  },
];

// Draws an example on a square canvas.
export function draw({ shapes }, canvas) {
  const pen = canvas.getContext("2d");
  pen.setTransform(canvas.width / 128, 0, 0, canvas.height / 128, 0, 0);
  for (const [color, path] of shapes) {
    pen.fillStyle = color;
    pen.fill(new Path2D(path));
  }
}
