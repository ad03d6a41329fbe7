// The last lines of something that goes on printing: bounded, and how many were left out before them. Pure.

export class Tail {
  private kept: string[] = [];
  private dropped = 0;

  constructor(private readonly most: number) {}

  /** `leftOut`: how many came before these and never arrived. */
  add(lines: readonly string[], leftOut = 0): void {
    // What never arrived came after what is kept: the tail begins anew, or it would hide a hole.
    if (leftOut > 0) {
      this.dropped += leftOut + this.kept.length;
      this.kept = [];
    }
    this.kept.push(...lines);
    const over = this.kept.length - this.most;
    if (over > 0) {
      this.kept.splice(0, over);
      this.dropped += over;
    }
  }

  get count(): number {
    return this.dropped + this.kept.length;
  }

  text(): string {
    return (this.dropped ? [`(${this.dropped} earlier lines are not shown)`] : []).concat(this.kept).join("\n");
  }
}
