// Loaded before a program, this puts its clock two hours ahead at each SIGUSR2, so that its tokens expire.

let ahead = 0;
const now = Date.now;
Date.now = () => now() + ahead;
process.on("SIGUSR2", () => {
  ahead += 2 * 60 * 60 * 1000;
  console.log("The clock is two hours ahead.");
});
