// Postmark's Node SDK: `ServerClient.sendEmail`. by_postmark.js LETTERS ADDRESS FOLDER, the token in $SDK_KEY.
const fs = require("node:fs");
const postmark = require("postmark");

const client = new postmark.ServerClient(process.env.SDK_KEY, { useHttps: false, requestHost: process.argv[3] });
const quoted = (name) => `"${name.replace(/[\\"]/g, "\\$&")}"`;
const written = (person) => (person.name ? `${quoted(person.name)} <${person.email}>` : person.email);
const listed = (people) => (people || []).map(written).join(", ");

function message(letter) {
  const made = new postmark.Models.Message(
    written(letter.from), letter.subject, letter.html, letter.text, listed(letter.to), listed(letter.cc),
    listed(letter.bcc), letter.reply_to && written(letter.reply_to), letter.tags && letter.tags[0], false,
    postmark.Models.LinkTrackingOptions.None,
    Object.entries(letter.headers).map(([name, value]) => new postmark.Models.Header(name, value)),
  );
  made.Headers.unshift(new postmark.Models.Header("X-PM-KeepID", "true"));
  made.MessageStream = "outbound";
  made.Metadata = { ...letter.metadata, sendrelay: "id-1" };
  const files = [...(letter.images || []), ...(letter.attachments || [])].map(attachment);
  if (files.length) made.Attachments = files;
  for (const name of ["Cc", "Bcc"]) if (!made[name]) delete made[name];
  return made;
}

function attachment(item) {
  return new postmark.Models.Attachment(item.filename, item.content, item.type, item.cid && `cid:${item.cid}`);
}

(async () => {
  for (const letter of JSON.parse(fs.readFileSync(process.argv[2], "utf-8"))) {
    console.log(`${letter.name}: ${(await client.sendEmail(message(letter))).MessageID}`);
  }
})();
