// An event as the test wants it shown (hostile.rs, `shortened`).
const BYTES_SHOWN_MAX = 1000;
export function shown(data) {
  const bytes = Buffer.from(data);
  if (bytes.length < BYTES_SHOWN_MAX) return data;
  let sum = 0;
  for (const byte of bytes) sum = (Math.imul(sum, 31) + byte) >>> 0;
  return `${bytes.length} bytes, sum ${sum}`;
}
