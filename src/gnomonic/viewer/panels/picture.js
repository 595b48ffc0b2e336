/** Pictures that somebody searches with. */

const MOST_BYTES = 16 << 20;

/** @param {File} file */
export function isPicture(file) {
  return file.type.startsWith("image/");
}

/** The first picture file of what was dropped or pasted. @param {DataTransfer | null} given */
export function pictureIn(given) {
  return [...(given?.files ?? [])].find(isPicture) ?? null;
}

/**
 * A picture file in base64.
 *
 * @param {File} file
 * @returns {Promise<string>}
 */
export async function readPicture(file) {
  if (file.size > MOST_BYTES) {
    throw new Error(`${file.name} has ${Math.round(file.size / 1e6)} MB; at most 16 MB can be searched with.`);
  }
  const address = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(String(reader.result)));
    reader.addEventListener("error", () => reject(new Error(reader.error?.message ?? "the file cannot be read")));
    reader.readAsDataURL(file);
  });
  return address.slice(address.indexOf(",") + 1);
}
