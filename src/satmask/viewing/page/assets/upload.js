// Sends a GeoTIFF that is chosen, or dropped on the page; the server counts, checks and names it.
(() => {
  const part = (name) => document.getElementById(name);
  const say = (text) => { const says = part("satmask-upload-says"); if (says) says.textContent = text; };
  const show = (share) => {
    const bar = part("satmask-upload-bar");
    if (!bar) return;
    for (const one of [bar, document.querySelector(".satmask-upload-stop")]) one.classList.toggle("satmask-hidden", share === null);
    bar.value = share ?? 0;
  };

  function send(file) {
    const most = Number(part("satmask-file")?.dataset.most);
    if (!most || window.satmaskUpload) return;
    if (file.size > most) {
      say(`Upload must have at most ${most.toLocaleString("en")} bytes, got ${file.size.toLocaleString("en")}.`);
      return;
    }
    const request = new XMLHttpRequest();
    window.satmaskUpload = request;
    request.open("POST", `/upload?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => event.lengthComputable && show(event.loaded / event.total);
    request.onload = () => {
      if (request.status !== 200) return say(request.responseText.trim());
      const sent = JSON.parse(request.responseText);
      say(`${sent.name} is there.`);
      if (sent.place) emitEvent("satmask-uploaded", sent.place);
    };
    request.onerror = () => say("The upload broke off. Try again.");
    request.onabort = () => say("The upload was stopped.");
    request.onloadend = () => { window.satmaskUpload = undefined; show(null); };
    say(`Sending ${file.name} …`);
    show(0);
    request.send(file);
  }

  const drops = (event) => part("satmask-file") && [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("change", (event) => {
    if (event.target.id !== "satmask-file") return;
    if (event.target.files.length) send(event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("dragover", (event) => {
    if (!drops(event)) return;
    event.preventDefault();
    document.body.classList.add("satmask-dropping");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("satmask-dropping"));
  document.addEventListener("drop", (event) => {
    if (!drops(event)) return;
    event.preventDefault();
    document.body.classList.remove("satmask-dropping");
    const files = [...event.dataTransfer.files];
    if (files.length === 1) send(files[0]);
    else say(`Upload must be one file at a time, got ${files.length}.`);
  });
})();
